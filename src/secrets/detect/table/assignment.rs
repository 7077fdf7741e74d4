//! Assignments to telling names: `password = …`, `api_key: …`, `--token …`.

use crate::secrets::detect::row::Row;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::assigned("password", "password, passphrase or PIN assigned to a name", &["passw", "passphrase", "pwd", "_pass", "mdp_", "kennwort", "passcode"]).words(),
    Row::assigned("secret", "secret assigned to a name", &["secret"]),
    Row::assigned("token", "token assigned to a name", &["token"]),
    Row::assigned("api-key", "key assigned to a name", &["api_key", "apikey", "api-key", "access_key", "accesskey", "access-key", "private_key", "privatekey",
        "private-key", "encryption_key", "signing_key", "auth_key", "authkey", "master_key", "masterkey", "secret_key", "app_key", "service_key", "license_key", "account_key"]),
    Row::assigned("credential", "credential assigned to a name", &["credential", "_auth", "auth_", "cookie_", "session_key"]),
];
