"""Why a candidate fell short: its failures are tried again with one thing changed, and what cures them is counted."""
