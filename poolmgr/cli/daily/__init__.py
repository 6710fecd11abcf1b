"""What the commands of every day share: one reading of the cluster, its rows, its explanations, and how they are written."""
