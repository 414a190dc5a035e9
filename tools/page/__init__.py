"""What the page of `tools.playground` shows: a tab that fills, a tab that draws, layouts, and its server; no flags."""
