-- Which call an idempotency key stands for, and what was answered, so that the same request again is no second call.
CREATE TABLE idempotency (
  key_id TEXT NOT NULL,
  route TEXT NOT NULL,
  name TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  call_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  answered_at INTEGER,
  status INTEGER,
  headers BLOB,
  body BLOB,
  CONSTRAINT pk_idempotency PRIMARY KEY (key_id, route, name)
) STRICT;

CREATE INDEX ix_idempotency_expires ON idempotency (expires_at);
