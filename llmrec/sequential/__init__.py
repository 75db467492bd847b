"""Recommenders of the SASRec family: a network reads a history; its state's inner products with the items' vectors are scores."""
