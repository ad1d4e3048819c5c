"""What every request passes before it is answered: who asks, how much may be asked, and what is told of it."""
