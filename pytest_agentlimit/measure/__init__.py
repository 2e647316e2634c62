"""Pure statistics on plain numbers; standard library only."""
