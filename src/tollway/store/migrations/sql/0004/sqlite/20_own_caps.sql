-- Caps that whoever holds a key sets on it: beside the operator's, and never above them. Events about money that somebody has seen.
CREATE TABLE own_cap (
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  amount INTEGER NOT NULL CONSTRAINT ck_own_cap_amount CHECK (amount >= 0),
  created_at INTEGER NOT NULL,
  CONSTRAINT pk_own_cap PRIMARY KEY (key_id, model),
  CONSTRAINT fk_own_cap_key_id FOREIGN KEY (key_id) REFERENCES api_key (id)
) STRICT;

CREATE TRIGGER revision_own_cap_insert AFTER INSERT ON own_cap
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_own_cap_update AFTER UPDATE ON own_cap
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_own_cap_delete AFTER DELETE ON own_cap
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

ALTER TABLE money_event ADD COLUMN seen_at INTEGER;

ALTER TABLE money_event ADD COLUMN seen_by TEXT;

CREATE INDEX ix_money_event_account ON money_event (account_id, at);
