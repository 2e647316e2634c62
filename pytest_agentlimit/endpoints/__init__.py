"""Clients, clocks and names of model endpoints."""
