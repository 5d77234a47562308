"""Our numbers beside the papers': tables (`report`), claims and verdicts (`claims`), static figures (`plots`)."""
