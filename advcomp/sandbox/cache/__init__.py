"""The page cache of what boxes share: one state, whatever earlier runs did."""
