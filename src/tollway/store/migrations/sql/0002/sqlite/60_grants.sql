-- Grants that expire, redemption codes, caps on single calls, low balances and what is to be told about them.
CREATE TABLE lot (
  entry_id TEXT NOT NULL,
  wallet INTEGER NOT NULL,
  amount INTEGER NOT NULL CONSTRAINT ck_lot_amount CHECK (amount BETWEEN 1 AND 1000000000000000),
  used INTEGER DEFAULT 0 NOT NULL,
  expired INTEGER DEFAULT 0 NOT NULL,
  granted_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  closed_at INTEGER,
  CONSTRAINT pk_lot PRIMARY KEY (entry_id),
  CONSTRAINT ck_lot_within CHECK (used >= 0 AND expired >= 0 AND used + expired <= amount),
  CONSTRAINT fk_lot_wallet FOREIGN KEY (wallet) REFERENCES ledger_account (id)
) STRICT;

CREATE INDEX ix_lot_open ON lot (expires_at) WHERE closed_at IS NULL;

CREATE INDEX ix_lot_wallet ON lot (wallet);

CREATE TABLE lot_mark (
  wallet INTEGER NOT NULL,
  spent INTEGER NOT NULL,
  CONSTRAINT pk_lot_mark PRIMARY KEY (wallet),
  CONSTRAINT fk_lot_mark_wallet FOREIGN KEY (wallet) REFERENCES ledger_account (id)
) STRICT;

CREATE TABLE code (
  digest TEXT NOT NULL,
  batch TEXT NOT NULL,
  hint TEXT NOT NULL,
  amount INTEGER NOT NULL CONSTRAINT ck_code_amount CHECK (amount BETWEEN 1 AND 1000000000000000),
  credit_days INTEGER CONSTRAINT ck_code_credit_days CHECK (credit_days > 0),
  note TEXT,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  voided_at INTEGER,
  redeemed_at INTEGER,
  redeemed_by TEXT,
  entry_id TEXT,
  CONSTRAINT pk_code PRIMARY KEY (digest),
  CONSTRAINT ck_code_redeemed CHECK ((redeemed_at IS NULL) = (redeemed_by IS NULL))
) STRICT;

CREATE INDEX ix_code_batch ON code (batch);

CREATE TABLE model_cap (
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  amount INTEGER NOT NULL CONSTRAINT ck_model_cap_amount CHECK (amount >= 0),
  created_at INTEGER NOT NULL,
  CONSTRAINT pk_model_cap PRIMARY KEY (key_id, model),
  CONSTRAINT fk_model_cap_key_id FOREIGN KEY (key_id) REFERENCES api_key (id)
) STRICT;

CREATE TABLE low_balance (
  wallet INTEGER NOT NULL,
  below INTEGER NOT NULL CONSTRAINT ck_low_balance_below CHECK (below >= 0),
  since INTEGER,
  CONSTRAINT pk_low_balance PRIMARY KEY (wallet),
  CONSTRAINT fk_low_balance_wallet FOREIGN KEY (wallet) REFERENCES ledger_account (id)
) STRICT;

CREATE TABLE money_event (
  id TEXT NOT NULL,
  kind TEXT NOT NULL,
  account_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  details TEXT DEFAULT '{}' NOT NULL,
  sent_at INTEGER,
  CONSTRAINT pk_money_event PRIMARY KEY (id)
) STRICT;

CREATE INDEX ix_money_event_unsent ON money_event (at) WHERE sent_at IS NULL;

CREATE TRIGGER revision_model_cap_insert AFTER INSERT ON model_cap
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_model_cap_update AFTER UPDATE ON model_cap
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_model_cap_delete AFTER DELETE ON model_cap
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;
