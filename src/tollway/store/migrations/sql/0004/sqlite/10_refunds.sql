-- A refund covers what was charged beyond the hold, too: `refunded_over` counts that part, up to the overage's entry.
ALTER TABLE hold ADD COLUMN refunded_over INTEGER DEFAULT 0 NOT NULL CONSTRAINT ck_hold_refunded_over CHECK (refunded_over >= 0);

DROP TRIGGER hold_added;

CREATE TRIGGER hold_added AFTER INSERT ON hold
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

DROP TRIGGER hold_fixed;

CREATE TRIGGER hold_fixed BEFORE UPDATE OF id, wallet, budget, project_budget, amount, extends, price_version, owner, created_at, refunded, refunded_over ON hold
WHEN NEW.id <> OLD.id OR NEW.wallet <> OLD.wallet OR NEW.budget IS NOT OLD.budget OR NEW.project_budget IS NOT OLD.project_budget OR NEW.amount <> OLD.amount
  OR NEW.extends IS NOT OLD.extends OR NEW.price_version <> OLD.price_version OR NEW.owner <> OLD.owner
  OR NEW.created_at <> OLD.created_at OR NEW.refunded < OLD.refunded OR NEW.refunded_over < OLD.refunded_over
BEGIN
  SELECT RAISE(ABORT, 'illegal: a hold keeps its terms');
END;

DROP TRIGGER entry_added;

CREATE TRIGGER entry_added AFTER INSERT ON entry
WHEN NOT EXISTS (
  SELECT 1 FROM hold h WHERE h.id = NEW.hold_id AND h.state = 'settled' AND h.settled = NEW.amount AND (
    NEW.id = 's:' || h.id AND NEW.kind = 'settle' AND NEW.debit = h.wallet AND NEW.credit = 2
    OR NEW.id = 'b:' || h.id AND NEW.kind = 'budget' AND NEW.debit = h.budget AND NEW.credit = 1
    OR NEW.id = 'p:' || h.id AND NEW.kind = 'budget' AND NEW.debit = h.project_budget AND NEW.credit = 1))
BEGIN
  SELECT RAISE(ABORT, 'illegal: this entry belongs to a settled hold and follows its terms')
  WHERE NEW.kind IN ('settle', 'budget', 'overage', 'refund') AND NOT EXISTS (
    SELECT 1 FROM hold h WHERE h.id = NEW.hold_id AND h.state = 'settled' AND CASE NEW.kind
      WHEN 'budget' THEN NEW.credit = 1
        AND (NEW.id = 'ob:' || h.id AND NEW.debit = h.budget OR NEW.id = 'op:' || h.id AND NEW.debit = h.project_budget)
      WHEN 'overage' THEN NEW.id = 'o:' || h.id AND NEW.debit = h.wallet AND NEW.credit = 2
      WHEN 'refund' THEN NEW.debit = 2 AND NEW.credit = h.wallet
    END
  );
  SELECT RAISE(ABORT, 'illegal: this kind of entry does not join these accounts')
  WHERE NEW.kind IN ('grant', 'topup', 'adjust', 'expire') AND NOT EXISTS (
    SELECT 1 FROM ledger_account w
    WHERE w.kind = 'wallet'
      AND w.id = CASE WHEN NEW.kind IN ('grant', 'topup') OR NEW.kind = 'adjust' AND NEW.debit = 1 THEN NEW.credit ELSE NEW.debit END
      AND CASE NEW.kind
        WHEN 'grant' THEN NEW.debit = 4
        WHEN 'topup' THEN NEW.debit = 1
        WHEN 'expire' THEN NEW.credit = 4
        ELSE 1 IN (NEW.debit, NEW.credit)
      END
  );
  SELECT RAISE(ABORT, 'illegal: what is absorbed goes from absorbed to revenue')
  WHERE NEW.kind = 'absorb' AND (NEW.id IS NOT 'a:' || NEW.hold_id OR NEW.debit <> 3 OR NEW.credit <> 2);
  SELECT RAISE(ABORT, 'illegal: refunds stay within what was charged')
  WHERE NEW.kind = 'refund' AND NEW.amount > (
    SELECT h.settled - h.refunded - h.refunded_over
      + COALESCE((SELECT o.amount FROM entry o WHERE o.id = 'o:' || h.id AND o.kind = 'overage' AND o.hold_id = h.id), 0)
    FROM hold h WHERE h.id = NEW.hold_id
  );
  UPDATE ledger_account SET debited = debited + NEW.amount WHERE id = NEW.debit AND bounded = 1;
  UPDATE ledger_account SET credited = credited + NEW.amount WHERE id = NEW.credit AND bounded = 1;
  UPDATE hold SET refunded = min(settled, refunded + NEW.amount), refunded_over = refunded_over + max(0, refunded + NEW.amount - settled)
  WHERE id = NEW.hold_id AND NEW.kind = 'refund';
END;
