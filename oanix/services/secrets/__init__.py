"""SecretsFs: keys that are used for you, and never shown.

README
status          how the vault is
ctl             new NAME, remove NAME, unlock [PASSPHRASE], lock
NAME/info       name, dates, uses, rule, state; never the value
NAME/ctl        set VALUE, rotate VALUE, rule METHODS URL TEMPLATE, remove
"""

from oanix.services.secrets.service import SecretsFs

__all__ = ["SecretsFs"]
