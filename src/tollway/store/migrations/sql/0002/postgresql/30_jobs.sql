-- Sums of calls by quarter hour and longer spans, seals of the ledger's entries, and the jobs that make both.
CREATE TABLE rollup (
  bucket BIGINT NOT NULL,
  kept INTEGER NOT NULL,
  account_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  channel_id TEXT NOT NULL,
  calls BIGINT DEFAULT 0 NOT NULL,
  failures BIGINT DEFAULT 0 NOT NULL,
  charged BIGINT DEFAULT 0 NOT NULL,
  absorbed BIGINT DEFAULT 0 NOT NULL,
  refunded BIGINT DEFAULT 0 NOT NULL,
  cost BIGINT DEFAULT 0 NOT NULL,
  unpriced BIGINT DEFAULT 0 NOT NULL,
  tokens_in BIGINT DEFAULT 0 NOT NULL,
  tokens_cached BIGINT DEFAULT 0 NOT NULL,
  tokens_out BIGINT DEFAULT 0 NOT NULL,
  CONSTRAINT pk_rollup PRIMARY KEY (bucket, kept, account_id, project_id, key_id, model, channel_id),
  CONSTRAINT ck_rollup_kept CHECK (kept IN (0, 1))
);

CREATE INDEX ix_rollup_account ON rollup (account_id, bucket);

CREATE TABLE rollup_sum (
  span TEXT NOT NULL CONSTRAINT ck_rollup_sum_span CHECK (span IN ('quarter','day','month')),
  grain TEXT NOT NULL CONSTRAINT ck_rollup_sum_grain CHECK (grain IN ('all','key','model','channel','key_model','full')),
  bucket BIGINT NOT NULL,
  account_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  channel_id TEXT NOT NULL,
  calls BIGINT DEFAULT 0 NOT NULL,
  failures BIGINT DEFAULT 0 NOT NULL,
  charged BIGINT DEFAULT 0 NOT NULL,
  absorbed BIGINT DEFAULT 0 NOT NULL,
  refunded BIGINT DEFAULT 0 NOT NULL,
  cost BIGINT DEFAULT 0 NOT NULL,
  unpriced BIGINT DEFAULT 0 NOT NULL,
  tokens_in BIGINT DEFAULT 0 NOT NULL,
  tokens_cached BIGINT DEFAULT 0 NOT NULL,
  tokens_out BIGINT DEFAULT 0 NOT NULL,
  CONSTRAINT pk_rollup_sum PRIMARY KEY (span, grain, bucket, account_id, project_id, key_id, model, channel_id)
);

CREATE INDEX ix_rollup_sum_account ON rollup_sum (account_id, span, grain, bucket);

CREATE TABLE rolled_refund (
  entry_id TEXT NOT NULL,
  CONSTRAINT pk_rolled_refund PRIMARY KEY (entry_id)
);

CREATE TABLE mark (
  topic TEXT NOT NULL,
  value BIGINT NOT NULL,
  CONSTRAINT pk_mark PRIMARY KEY (topic)
);

CREATE TABLE seal (
  n BIGINT NOT NULL,
  first_seq BIGINT NOT NULL,
  last_seq BIGINT NOT NULL,
  entries BIGINT NOT NULL CONSTRAINT ck_seal_entries CHECK (entries > 0),
  amount BIGINT NOT NULL,
  previous TEXT NOT NULL,
  digest TEXT NOT NULL,
  sealed_at BIGINT NOT NULL,
  CONSTRAINT pk_seal PRIMARY KEY (n),
  CONSTRAINT uq_seal_first_seq UNIQUE (first_seq),
  CONSTRAINT uq_seal_last_seq UNIQUE (last_seq),
  CONSTRAINT ck_seal_order CHECK (first_seq <= last_seq)
);

CREATE TABLE job (
  name TEXT NOT NULL,
  owner TEXT,
  token BIGINT DEFAULT 0 NOT NULL,
  lease_until BIGINT DEFAULT 0 NOT NULL,
  next_at BIGINT DEFAULT 0 NOT NULL,
  memo TEXT DEFAULT '{}' NOT NULL,
  CONSTRAINT pk_job PRIMARY KEY (name)
);

CREATE INDEX ix_call_finished ON call (finished_at);

CREATE INDEX ix_entry_refund ON entry (at) WHERE kind = 'refund';

CREATE TRIGGER seal_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON seal FOR EACH STATEMENT
EXECUTE FUNCTION tollway_illegal('a seal is neither changed nor deleted');
