"""Everything of a portal that it cannot make anew, in one place: made, checked and put back."""
