-- What was proved, as one sum for each account, so that the next proof reads only what came after.
CREATE TABLE proof_sum (
  account BIGINT NOT NULL,
  credited BIGINT DEFAULT 0 NOT NULL,
  debited BIGINT DEFAULT 0 NOT NULL,
  CONSTRAINT pk_proof_sum PRIMARY KEY (account)
);
