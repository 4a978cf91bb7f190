-- Grants that expire, redemption codes, caps on single calls, low balances and what is to be told about them.
CREATE TABLE lot (
  entry_id TEXT NOT NULL,
  wallet BIGINT NOT NULL,
  amount BIGINT NOT NULL CONSTRAINT ck_lot_amount CHECK (amount BETWEEN 1 AND 1000000000000000),
  used BIGINT DEFAULT 0 NOT NULL,
  expired BIGINT DEFAULT 0 NOT NULL,
  granted_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  closed_at BIGINT,
  CONSTRAINT pk_lot PRIMARY KEY (entry_id),
  CONSTRAINT ck_lot_within CHECK (used >= 0 AND expired >= 0 AND used + expired <= amount),
  CONSTRAINT fk_lot_wallet FOREIGN KEY (wallet) REFERENCES ledger_account (id)
);

CREATE INDEX ix_lot_open ON lot (expires_at) WHERE closed_at IS NULL;

CREATE INDEX ix_lot_wallet ON lot (wallet);

CREATE TABLE lot_mark (
  wallet BIGINT NOT NULL,
  spent BIGINT NOT NULL,
  CONSTRAINT pk_lot_mark PRIMARY KEY (wallet),
  CONSTRAINT fk_lot_mark_wallet FOREIGN KEY (wallet) REFERENCES ledger_account (id)
);

CREATE TABLE code (
  digest TEXT NOT NULL,
  batch TEXT NOT NULL,
  hint TEXT NOT NULL,
  amount BIGINT NOT NULL CONSTRAINT ck_code_amount CHECK (amount BETWEEN 1 AND 1000000000000000),
  credit_days BIGINT CONSTRAINT ck_code_credit_days CHECK (credit_days > 0),
  note TEXT,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  voided_at BIGINT,
  redeemed_at BIGINT,
  redeemed_by TEXT,
  entry_id TEXT,
  CONSTRAINT pk_code PRIMARY KEY (digest),
  CONSTRAINT ck_code_redeemed CHECK ((redeemed_at IS NULL) = (redeemed_by IS NULL))
);

CREATE INDEX ix_code_batch ON code (batch);

CREATE TABLE model_cap (
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  amount BIGINT NOT NULL CONSTRAINT ck_model_cap_amount CHECK (amount >= 0),
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_model_cap PRIMARY KEY (key_id, model),
  CONSTRAINT fk_model_cap_key_id FOREIGN KEY (key_id) REFERENCES api_key (id)
);

CREATE TABLE low_balance (
  wallet BIGINT NOT NULL,
  below BIGINT NOT NULL CONSTRAINT ck_low_balance_below CHECK (below >= 0),
  since BIGINT,
  CONSTRAINT pk_low_balance PRIMARY KEY (wallet),
  CONSTRAINT fk_low_balance_wallet FOREIGN KEY (wallet) REFERENCES ledger_account (id)
);

CREATE TABLE money_event (
  id TEXT NOT NULL,
  kind TEXT NOT NULL,
  account_id TEXT NOT NULL,
  at BIGINT NOT NULL,
  details TEXT DEFAULT '{}' NOT NULL,
  sent_at BIGINT,
  CONSTRAINT pk_money_event PRIMARY KEY (id)
);

CREATE INDEX ix_money_event_unsent ON money_event (at) WHERE sent_at IS NULL;

CREATE TRIGGER revision_model_cap AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON model_cap
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('keys');
