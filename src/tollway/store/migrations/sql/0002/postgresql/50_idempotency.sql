-- Which call an idempotency key stands for, and what was answered, so that the same request again is no second call.
CREATE TABLE idempotency (
  key_id TEXT NOT NULL,
  route TEXT NOT NULL,
  name TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  call_id TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  answered_at BIGINT,
  status BIGINT,
  headers BYTEA,
  body BYTEA,
  CONSTRAINT pk_idempotency PRIMARY KEY (key_id, route, name)
);

CREATE INDEX ix_idempotency_expires ON idempotency (expires_at);
