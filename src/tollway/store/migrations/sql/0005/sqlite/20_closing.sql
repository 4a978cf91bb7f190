-- The entry of a settlement by a trigger of its own: where a SELECT decides whether there is one, SQLite makes a table for it.
DROP TRIGGER hold_closes;

CREATE TRIGGER hold_closes AFTER UPDATE OF state, settled, reason, closed_at, expires_at ON hold
BEGIN
  SELECT RAISE(ABORT, 'illegal: a hold closes once') WHERE OLD.state <> 'held';
  UPDATE ledger_account SET held = held - OLD.amount, debited = debited + COALESCE(NEW.settled, 0)
  WHERE id = OLD.wallet AND NEW.state <> 'held';
END;

CREATE TRIGGER hold_settles AFTER UPDATE OF state, settled, reason, closed_at, expires_at ON hold
WHEN NEW.settled > 0
BEGIN
  INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at)
  VALUES ('s:' || NEW.id, NEW.wallet, 2, NEW.settled, 'settle', NEW.id, NEW.closed_at);
END;
