CREATE TABLE account (
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  status TEXT DEFAULT 'active' NOT NULL CONSTRAINT ck_account_status CHECK (status IN ('active','suspended')),
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_account PRIMARY KEY (id),
  CONSTRAINT uq_account_name UNIQUE (name)
);

CREATE TABLE attempt (
  call_id TEXT NOT NULL,
  n INTEGER NOT NULL,
  channel_id TEXT NOT NULL,
  upstream_model TEXT NOT NULL,
  status BIGINT NOT NULL,
  error TEXT,
  latency_ms BIGINT NOT NULL,
  first_byte_ms BIGINT,
  cost BIGINT,
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_attempt PRIMARY KEY (call_id, n)
);

CREATE TABLE audit (
  seq BIGSERIAL NOT NULL,
  at BIGINT NOT NULL,
  actor TEXT NOT NULL,
  source TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  before TEXT,
  after TEXT,
  CONSTRAINT pk_audit PRIMARY KEY (seq)
);

CREATE INDEX ix_audit_target ON audit (target, seq);

CREATE TABLE call (
  id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  channel_id TEXT,
  upstream_model TEXT,
  dialect TEXT NOT NULL,
  route TEXT NOT NULL,
  stream INTEGER NOT NULL,
  status BIGINT NOT NULL,
  outcome TEXT NOT NULL,
  error_code TEXT,
  flags TEXT DEFAULT '[]' NOT NULL,
  usage TEXT DEFAULT '{}' NOT NULL,
  price_version BIGINT NOT NULL,
  held BIGINT NOT NULL,
  charged BIGINT NOT NULL,
  absorbed BIGINT NOT NULL,
  cost BIGINT,
  created_at BIGINT NOT NULL,
  first_token_at BIGINT,
  finished_at BIGINT NOT NULL,
  ip TEXT NOT NULL,
  user_agent TEXT NOT NULL,
  CONSTRAINT pk_call PRIMARY KEY (id)
);

CREATE INDEX ix_call_account ON call (account_id, created_at);

CREATE TABLE channel (
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  dialect TEXT NOT NULL,
  base_url TEXT NOT NULL,
  secret BYTEA,
  secret_hint TEXT DEFAULT '' NOT NULL,
  groups TEXT DEFAULT '["default"]' NOT NULL,
  priority BIGINT DEFAULT 0 NOT NULL,
  weight BIGINT DEFAULT 1 NOT NULL CONSTRAINT ck_channel_weight CHECK (weight > 0),
  status TEXT DEFAULT 'enabled' NOT NULL CONSTRAINT ck_channel_status CHECK (status IN ('enabled','disabled')),
  options TEXT DEFAULT '{}' NOT NULL,
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_channel PRIMARY KEY (id),
  CONSTRAINT uq_channel_name UNIQUE (name)
);

CREATE TABLE instance (
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  CONSTRAINT pk_instance PRIMARY KEY (name)
);

CREATE TABLE job_run (
  id TEXT NOT NULL,
  job TEXT NOT NULL,
  status TEXT NOT NULL CONSTRAINT ck_job_run_status CHECK (status IN ('running','ok','failed')),
  started_at BIGINT NOT NULL,
  finished_at BIGINT,
  result TEXT DEFAULT '{}' NOT NULL,
  CONSTRAINT pk_job_run PRIMARY KEY (id)
);

CREATE INDEX ix_job_run_job ON job_run (job, started_at);

CREATE TABLE ledger_account (
  id BIGSERIAL NOT NULL,
  kind TEXT NOT NULL CONSTRAINT ck_ledger_account_kind CHECK (kind IN ('wallet','budget','revenue','world','absorbed','promo')),
  owner TEXT NOT NULL,
  period TEXT DEFAULT '' NOT NULL,
  credited BIGINT DEFAULT 0 NOT NULL CONSTRAINT ck_ledger_account_credited CHECK (credited BETWEEN 0 AND 1000000000000000000),
  debited BIGINT DEFAULT 0 NOT NULL CONSTRAINT ck_ledger_account_debited CHECK (debited BETWEEN 0 AND 1000000000000000000),
  held BIGINT DEFAULT 0 NOT NULL CONSTRAINT ck_ledger_account_held CHECK (held >= 0),
  overdraft BIGINT DEFAULT 0 NOT NULL CONSTRAINT ck_ledger_account_overdraft CHECK (overdraft BETWEEN 0 AND 1000000000000000),
  bounded INTEGER DEFAULT 1 NOT NULL CONSTRAINT ck_ledger_account_bounded CHECK ((bounded = 1) = (kind IN ('wallet','budget'))),
  CONSTRAINT pk_ledger_account PRIMARY KEY (id),
  CONSTRAINT uq_ledger_account_kind_owner_period UNIQUE (kind, owner, period),
  CONSTRAINT ck_ledger_account_no_overspend CHECK (bounded = 0 OR debited + held <= credited + overdraft)
);

CREATE TABLE model (
  id TEXT NOT NULL,
  kind TEXT DEFAULT 'chat' NOT NULL,
  provider TEXT DEFAULT '' NOT NULL,
  description TEXT DEFAULT '' NOT NULL,
  context_window BIGINT DEFAULT 0 NOT NULL,
  output_max BIGINT DEFAULT 0 NOT NULL,
  capabilities TEXT DEFAULT '[]' NOT NULL,
  status TEXT DEFAULT 'enabled' NOT NULL CONSTRAINT ck_model_status CHECK (status IN ('enabled','disabled')),
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_model PRIMARY KEY (id)
);

CREATE TABLE revision (
  topic TEXT NOT NULL,
  number BIGINT NOT NULL,
  CONSTRAINT pk_revision PRIMARY KEY (topic)
);

CREATE TABLE worker (
  id TEXT NOT NULL,
  host TEXT NOT NULL,
  pid BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  heartbeat_at BIGINT NOT NULL,
  stopped_at BIGINT,
  CONSTRAINT pk_worker PRIMARY KEY (id)
);

CREATE TABLE hold (
  id TEXT NOT NULL,
  wallet BIGINT NOT NULL,
  budget BIGINT,
  amount BIGINT NOT NULL CONSTRAINT ck_hold_amount CHECK (amount BETWEEN 0 AND 1000000000000000),
  state TEXT DEFAULT 'held' NOT NULL CONSTRAINT ck_hold_state CHECK (state = 'held' OR state = 'settled' OR state = 'released'),
  settled BIGINT CONSTRAINT ck_hold_settled CHECK (settled IS NULL OR settled BETWEEN 0 AND amount),
  refunded BIGINT DEFAULT 0 NOT NULL CONSTRAINT ck_hold_refunded CHECK (refunded >= 0 AND refunded <= COALESCE(settled, 0)),
  extends TEXT,
  reason TEXT,
  price_version BIGINT DEFAULT 0 NOT NULL,
  owner TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  closed_at BIGINT,
  CONSTRAINT pk_hold PRIMARY KEY (id),
  CONSTRAINT ck_hold_settled_state CHECK ((state = 'settled') = (settled IS NOT NULL)),
  CONSTRAINT ck_hold_closed_state CHECK ((state = 'held') = (closed_at IS NULL)),
  CONSTRAINT fk_hold_wallet FOREIGN KEY(wallet) REFERENCES ledger_account (id),
  CONSTRAINT fk_hold_budget FOREIGN KEY(budget) REFERENCES ledger_account (id),
  CONSTRAINT fk_hold_extends FOREIGN KEY(extends) REFERENCES hold (id)
);

CREATE INDEX ix_hold_extends ON hold (extends) WHERE extends IS NOT NULL;

CREATE INDEX ix_hold_open ON hold (owner, expires_at) WHERE state = 'held';

CREATE TABLE model_alias (
  alias TEXT NOT NULL,
  model_id TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_model_alias PRIMARY KEY (alias),
  CONSTRAINT fk_model_alias_model_id FOREIGN KEY(model_id) REFERENCES model (id)
);

CREATE TABLE price_version (
  version BIGSERIAL NOT NULL,
  model_id TEXT NOT NULL,
  rates TEXT NOT NULL,
  source TEXT DEFAULT 'operator' NOT NULL,
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_price_version PRIMARY KEY (version),
  CONSTRAINT fk_price_version_model_id FOREIGN KEY(model_id) REFERENCES model (id)
);

CREATE INDEX ix_price_version_model ON price_version (model_id, version);

CREATE TABLE project (
  id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  name TEXT NOT NULL,
  status TEXT DEFAULT 'active' NOT NULL CONSTRAINT ck_project_status CHECK (status IN ('active','disabled')),
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_project PRIMARY KEY (id),
  CONSTRAINT uq_project_account_id_name UNIQUE (account_id, name),
  CONSTRAINT fk_project_account_id FOREIGN KEY(account_id) REFERENCES account (id)
);

CREATE TABLE route (
  channel_id TEXT NOT NULL,
  model_id TEXT NOT NULL,
  upstream_model TEXT NOT NULL,
  cost TEXT,
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_route PRIMARY KEY (channel_id, model_id),
  CONSTRAINT fk_route_channel_id FOREIGN KEY(channel_id) REFERENCES channel (id),
  CONSTRAINT fk_route_model_id FOREIGN KEY(model_id) REFERENCES model (id)
);

CREATE TABLE user_account (
  id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  email TEXT NOT NULL,
  role TEXT NOT NULL CONSTRAINT ck_user_account_role CHECK (role IN ('admin','member')),
  password TEXT,
  status TEXT DEFAULT 'active' NOT NULL CONSTRAINT ck_user_account_status CHECK (status IN ('active','disabled')),
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_user_account PRIMARY KEY (id),
  CONSTRAINT fk_user_account_account_id FOREIGN KEY(account_id) REFERENCES account (id),
  CONSTRAINT uq_user_account_email UNIQUE (email)
);

CREATE TABLE api_key (
  id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  name TEXT NOT NULL,
  digest BYTEA NOT NULL,
  display TEXT NOT NULL,
  status TEXT DEFAULT 'active' NOT NULL CONSTRAINT ck_api_key_status CHECK (status IN ('active','disabled','revoked')),
  key_group TEXT DEFAULT 'default' NOT NULL,
  models TEXT DEFAULT '[]' NOT NULL,
  networks TEXT DEFAULT '[]' NOT NULL,
  rpm BIGINT CONSTRAINT ck_api_key_rpm CHECK (rpm > 0),
  tpm BIGINT CONSTRAINT ck_api_key_tpm CHECK (tpm > 0),
  concurrency BIGINT CONSTRAINT ck_api_key_concurrency CHECK (concurrency > 0),
  budget BIGINT CONSTRAINT ck_api_key_budget CHECK (budget >= 0),
  budget_period TEXT DEFAULT 'total' NOT NULL CONSTRAINT ck_api_key_budget_period CHECK (budget_period IN ('total','daily','weekly','monthly')),
  expires_at BIGINT,
  replaces TEXT,
  tags TEXT DEFAULT '[]' NOT NULL,
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_api_key PRIMARY KEY (id),
  CONSTRAINT fk_api_key_account_id FOREIGN KEY(account_id) REFERENCES account (id),
  CONSTRAINT fk_api_key_project_id FOREIGN KEY(project_id) REFERENCES project (id),
  CONSTRAINT uq_api_key_digest UNIQUE (digest),
  CONSTRAINT fk_api_key_replaces FOREIGN KEY(replaces) REFERENCES api_key (id)
);

CREATE INDEX ix_api_key_account ON api_key (account_id);

CREATE TABLE entry (
  seq BIGSERIAL NOT NULL,
  id TEXT NOT NULL,
  debit BIGINT NOT NULL,
  credit BIGINT NOT NULL,
  amount BIGINT NOT NULL CONSTRAINT ck_entry_amount CHECK (amount BETWEEN 1 AND 1000000000000000),
  kind TEXT NOT NULL CONSTRAINT ck_entry_kind CHECK (kind = 'grant' OR kind = 'topup' OR kind = 'settle' OR kind = 'budget' OR kind = 'overage' OR kind = 'refund' OR kind = 'adjust' OR kind = 'expire' OR kind = 'absorb'),
  hold_id TEXT,
  note TEXT,
  at BIGINT NOT NULL,
  CONSTRAINT pk_entry PRIMARY KEY (seq),
  CONSTRAINT ck_entry_two_sides CHECK (debit <> credit),
  CONSTRAINT uq_entry_id UNIQUE (id),
  CONSTRAINT fk_entry_debit FOREIGN KEY(debit) REFERENCES ledger_account (id),
  CONSTRAINT fk_entry_credit FOREIGN KEY(credit) REFERENCES ledger_account (id),
  CONSTRAINT fk_entry_hold_id FOREIGN KEY(hold_id) REFERENCES hold (id)
);

CREATE INDEX ix_entry_credit ON entry (credit, seq) WHERE credit > 4;

CREATE INDEX ix_entry_debit ON entry (debit, seq);
