-- What the Responses API keeps for its clients: answers with what they answered, and whose items are whose.
CREATE TABLE response (
  id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  scope TEXT NOT NULL,
  thread TEXT NOT NULL,
  previous_id TEXT,
  depth BIGINT NOT NULL CONSTRAINT ck_response_depth CHECK (depth >= 1),
  size BIGINT NOT NULL CONSTRAINT ck_response_size CHECK (size >= 0),
  total BIGINT NOT NULL CONSTRAINT ck_response_total CHECK (total >= size),
  status TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  request BYTEA NOT NULL,
  output BYTEA NOT NULL,
  response BYTEA NOT NULL,
  CONSTRAINT pk_response PRIMARY KEY (id)
);

CREATE INDEX ix_response_thread ON response (thread, expires_at);

CREATE INDEX ix_response_expires ON response (expires_at);

CREATE TABLE response_item (
  response_id TEXT NOT NULL,
  item_id TEXT NOT NULL,
  CONSTRAINT pk_response_item PRIMARY KEY (response_id, item_id),
  CONSTRAINT fk_response_item_response_id FOREIGN KEY (response_id) REFERENCES response (id) ON DELETE CASCADE
);

CREATE INDEX ix_response_item_item ON response_item (item_id);
