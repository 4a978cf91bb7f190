-- A lease is an open hold of a process that belongs to no call. The hold of a call that was drawn from it is written closed,
-- with its settlement: `lease` names where its credits were set aside meanwhile.
ALTER TABLE hold ADD COLUMN lease TEXT;

DROP TRIGGER hold_added;

CREATE TRIGGER hold_added AFTER INSERT ON hold
WHEN NEW.lease IS NULL
BEGIN
  SELECT RAISE(ABORT, 'illegal: a hold begins as held') WHERE NEW.state <> 'held' OR NEW.refunded <> 0 OR NEW.refunded_over <> 0;
  SELECT RAISE(ABORT, 'illegal: only an open hold of the same wallet and budget is extended')
  WHERE NEW.extends IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM hold
    WHERE id = NEW.extends AND state = 'held' AND extends IS NULL AND wallet = NEW.wallet AND budget IS NEW.budget
      AND project_budget IS NEW.project_budget
  );
  UPDATE ledger_account SET held = held + NEW.amount WHERE id = NEW.wallet AND kind = 'wallet';
  SELECT RAISE(ABORT, 'illegal: a hold is on a wallet') WHERE changes() <> 1;
  UPDATE ledger_account SET held = held + NEW.amount WHERE id = NEW.budget AND kind = 'budget';
  SELECT RAISE(ABORT, 'illegal: a hold counts against a budget') WHERE NEW.budget IS NOT NULL AND changes() <> 1;
  UPDATE ledger_account SET held = held + NEW.amount WHERE id = NEW.project_budget AND kind = 'budget';
  SELECT RAISE(ABORT, 'illegal: a hold counts against a budget') WHERE NEW.project_budget IS NOT NULL AND changes() <> 1;
END;

CREATE TRIGGER hold_drawn AFTER INSERT ON hold
WHEN NEW.lease IS NOT NULL
BEGIN
  SELECT RAISE(ABORT, 'illegal: a hold drawn from a lease begins closed and counts against no budget')
  WHERE NEW.state = 'held' OR NEW.refunded <> 0 OR NEW.refunded_over <> 0
    OR NEW.extends IS NOT NULL OR NEW.budget IS NOT NULL OR NEW.project_budget IS NOT NULL;
  SELECT RAISE(ABORT, 'illegal: a hold is drawn from an open lease of the same wallet')
  WHERE NOT EXISTS (SELECT 1 FROM hold WHERE id = NEW.lease AND state = 'held' AND wallet = NEW.wallet);
END;

CREATE TRIGGER hold_drawn_settled AFTER INSERT ON hold
WHEN NEW.lease IS NOT NULL AND NEW.settled > 0
BEGIN
  UPDATE ledger_account SET debited = debited + NEW.settled WHERE id = NEW.wallet;
  INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at)
  VALUES ('s:' || NEW.id, NEW.wallet, 2, NEW.settled, 'settle', NEW.id, NEW.closed_at);
END;

DROP TRIGGER hold_fixed;

CREATE TRIGGER hold_fixed BEFORE UPDATE OF id, wallet, budget, project_budget, amount, extends, price_version, owner, created_at, refunded, refunded_over, lease ON hold
WHEN NEW.id <> OLD.id OR NEW.wallet <> OLD.wallet OR NEW.budget IS NOT OLD.budget OR NEW.project_budget IS NOT OLD.project_budget OR NEW.amount <> OLD.amount
  OR NEW.extends IS NOT OLD.extends OR NEW.price_version <> OLD.price_version OR NEW.owner <> OLD.owner
  OR NEW.created_at <> OLD.created_at OR NEW.lease IS NOT OLD.lease OR NEW.refunded < OLD.refunded OR NEW.refunded_over < OLD.refunded_over
BEGIN
  SELECT RAISE(ABORT, 'illegal: a hold keeps its terms');
END;
