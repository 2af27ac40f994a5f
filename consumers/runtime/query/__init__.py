"""The query process: GET /v1/..., the only place where strangers' reads run."""
