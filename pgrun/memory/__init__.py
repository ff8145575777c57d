"""What an update learns from: the latest rollout, replays, demonstrations. No networks here."""
