"""The report: a tournament as one HTML file that needs nothing from outside."""
