"""What several pages share: the shell, the panel of settings, cards, and how a mistake is shown."""
