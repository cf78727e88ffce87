"""Ways of getting answers out of a model; `registry` names them all."""
