"""Made from the metric table: its page, alert and recording rules, runbook links, Grafana dashboards."""
