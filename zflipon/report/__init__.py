"""Browser hubs, HTML reports and figures."""
