-- Caps that whoever holds a key sets on it: beside the operator's, and never above them. Events about money that somebody has seen.
CREATE TABLE own_cap (
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  amount BIGINT NOT NULL CONSTRAINT ck_own_cap_amount CHECK (amount >= 0),
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_own_cap PRIMARY KEY (key_id, model),
  CONSTRAINT fk_own_cap_key_id FOREIGN KEY (key_id) REFERENCES api_key (id)
);

CREATE TRIGGER revision_own_cap AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON own_cap
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('keys');

ALTER TABLE money_event ADD COLUMN seen_at BIGINT;

ALTER TABLE money_event ADD COLUMN seen_by TEXT;

CREATE INDEX ix_money_event_account ON money_event (account_id, at);
