"""Training: recurrent PPO, and imitation for the overfit study."""
