"""Money: what a candidate costs a month, what that rests on, and how long it lasts. Pure."""
