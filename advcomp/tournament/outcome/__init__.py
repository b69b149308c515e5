"""From what is stored to what people read: collected labels, reports, status, forecasts."""
