-- Sums of calls by quarter hour and longer spans, seals of the ledger's entries, and the jobs that make both.
CREATE TABLE rollup (
  bucket INTEGER NOT NULL,
  kept INTEGER NOT NULL,
  account_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  channel_id TEXT NOT NULL,
  calls INTEGER DEFAULT 0 NOT NULL,
  failures INTEGER DEFAULT 0 NOT NULL,
  charged INTEGER DEFAULT 0 NOT NULL,
  absorbed INTEGER DEFAULT 0 NOT NULL,
  refunded INTEGER DEFAULT 0 NOT NULL,
  cost INTEGER DEFAULT 0 NOT NULL,
  unpriced INTEGER DEFAULT 0 NOT NULL,
  tokens_in INTEGER DEFAULT 0 NOT NULL,
  tokens_cached INTEGER DEFAULT 0 NOT NULL,
  tokens_out INTEGER DEFAULT 0 NOT NULL,
  CONSTRAINT pk_rollup PRIMARY KEY (bucket, kept, account_id, project_id, key_id, model, channel_id),
  CONSTRAINT ck_rollup_kept CHECK (kept IN (0, 1))
) WITHOUT ROWID, STRICT;

CREATE INDEX ix_rollup_account ON rollup (account_id, bucket);

CREATE TABLE rollup_sum (
  span TEXT NOT NULL CONSTRAINT ck_rollup_sum_span CHECK (span IN ('quarter','day','month')),
  grain TEXT NOT NULL CONSTRAINT ck_rollup_sum_grain CHECK (grain IN ('all','key','model','channel','key_model','full')),
  bucket INTEGER NOT NULL,
  account_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  channel_id TEXT NOT NULL,
  calls INTEGER DEFAULT 0 NOT NULL,
  failures INTEGER DEFAULT 0 NOT NULL,
  charged INTEGER DEFAULT 0 NOT NULL,
  absorbed INTEGER DEFAULT 0 NOT NULL,
  refunded INTEGER DEFAULT 0 NOT NULL,
  cost INTEGER DEFAULT 0 NOT NULL,
  unpriced INTEGER DEFAULT 0 NOT NULL,
  tokens_in INTEGER DEFAULT 0 NOT NULL,
  tokens_cached INTEGER DEFAULT 0 NOT NULL,
  tokens_out INTEGER DEFAULT 0 NOT NULL,
  CONSTRAINT pk_rollup_sum PRIMARY KEY (span, grain, bucket, account_id, project_id, key_id, model, channel_id)
) WITHOUT ROWID, STRICT;

CREATE INDEX ix_rollup_sum_account ON rollup_sum (account_id, span, grain, bucket);

CREATE TABLE rolled_refund (
  entry_id TEXT NOT NULL,
  CONSTRAINT pk_rolled_refund PRIMARY KEY (entry_id)
) WITHOUT ROWID, STRICT;

CREATE TABLE mark (
  topic TEXT NOT NULL,
  value INTEGER NOT NULL,
  CONSTRAINT pk_mark PRIMARY KEY (topic)
) STRICT;

CREATE TABLE seal (
  n INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  entries INTEGER NOT NULL CONSTRAINT ck_seal_entries CHECK (entries > 0),
  amount INTEGER NOT NULL,
  previous TEXT NOT NULL,
  digest TEXT NOT NULL,
  sealed_at INTEGER NOT NULL,
  CONSTRAINT pk_seal PRIMARY KEY (n),
  CONSTRAINT uq_seal_first_seq UNIQUE (first_seq),
  CONSTRAINT uq_seal_last_seq UNIQUE (last_seq),
  CONSTRAINT ck_seal_order CHECK (first_seq <= last_seq)
) STRICT;

CREATE TABLE job (
  name TEXT NOT NULL,
  owner TEXT,
  token INTEGER DEFAULT 0 NOT NULL,
  lease_until INTEGER DEFAULT 0 NOT NULL,
  next_at INTEGER DEFAULT 0 NOT NULL,
  memo TEXT DEFAULT '{}' NOT NULL,
  CONSTRAINT pk_job PRIMARY KEY (name)
) STRICT;

CREATE INDEX ix_call_finished ON call (finished_at);

CREATE INDEX ix_entry_refund ON entry (at) WHERE kind = 'refund';

CREATE TRIGGER seal_fixed BEFORE UPDATE ON seal
BEGIN
  SELECT RAISE(ABORT, 'illegal: a seal is not changed');
END;

CREATE TRIGGER seal_stays BEFORE DELETE ON seal
BEGIN
  SELECT RAISE(ABORT, 'illegal: a seal is not deleted');
END;
