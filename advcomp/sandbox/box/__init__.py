"""One box, whatever makes its walls: what goes in, what it shows, how it ends, what it leaves."""
