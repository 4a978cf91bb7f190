"""Money: credits, meters, rates, what a call may cost and what it did cost."""
