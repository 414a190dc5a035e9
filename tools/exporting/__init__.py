"""What makes exports and checks them in a fresh process; no flags, which are in the tools themselves."""
