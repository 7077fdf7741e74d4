//! Package registries and the stores of container images.

use crate::secrets::detect::row::{Row, Verify};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::at("npm-token", "token of npm", 4, &["npm_"], "npm_[A-Za-z0-9]{36}").verify(Verify::Crc32Base62),
    Row::near("npmrc-token", "token in a .npmrc", &["_authToken"], r#"(?i:_authtoken)["']?\s{0,3}[=:]\s{0,3}["']?([A-Za-z0-9_+/=.:-]{16,2000})"#).window(2100).entropy(28),
    Row::near("npmrc-auth", "login or password in a .npmrc, base64", &[":_auth", ":_password", "_auth="],
        r#":?_(?:auth|password)["']?\s{0,3}=\s{0,3}["']?([A-Za-z0-9+/]{8,500}={0,2})"#).entropy(25),
    Row::near("yarnrc-token", "token in a .yarnrc.yml", &["npmAuthToken", "npmAuthIdent"], r#"npmAuth(?:Token|Ident)["']?\s{0,3}:\s{0,3}["']?([A-Za-z0-9_+/=.:-]{16,2000})"#).window(2100).entropy(28),
    Row::at("pypi-token", "token of PyPI or TestPyPI: a macaroon", 20, &["pypi-AgEIcHlwaS5vcmc", "pypi-AgENdGVzdC5weXBpLm9yZw"],
        r"pypi-AgE(?:IcHlwaS5vcmc|NdGVzdC5weXBpLm9yZw)[A-Za-z0-9_-]{50,1000}").window(1100),
    Row::near("crates-token", "token of crates.io", &["\"cio", "'cio", "=cio", " cio"], r#"["'= ](cio[A-Za-z0-9]{32})(?:[^A-Za-z0-9_-]|$)"#).keep(3),
    Row::at("rubygems-key", "API key of RubyGems", 9, &["rubygems_"], r"rubygems_[a-f0-9]{48}"),
    Row::near("nuget-key", "API key of NuGet", &["\"oy2", "'oy2", "=oy2", " oy2", ">oy2"], r#"["'= >](oy2[a-z0-9]{43})(?:[^A-Za-z0-9_-]|$)"#).keep(3),
    Row::near("nuget-password", "password in a nuget.config", &["ClearTextPassword"], r#"(?i:cleartextpassword)"\s{1,4}value="([^"\s]{6,200})""#).words(),
    Row::at("docker-token", "token of Docker Hub", 9, &["dckr_pat_", "dckr_oat_"], r"dckr_[po]at_[A-Za-z0-9_-]{27,36}"),
    Row::near("docker-auth", "login of a registry in Docker's configuration", &["\"auth\"", "\\\"auth\\\""],
        r#"\\?"auth\\?"\s{0,8}:\s{0,8}\\?"([A-Za-z0-9+/]{8,3000}={0,2})\\?""#).window(3100).verify(Verify::BasicAuth).entropy(25),
    Row::near("docker-identity", "identity token of a registry in Docker's configuration", &["\"identitytoken\"", "\"registrytoken\""],
        r#""(?:identity|registry)token"\s{0,8}:\s{0,8}"([A-Za-z0-9_+/=.-]{16,3000})""#).window(3100),
    Row::at("artifactory-key", "API key of Artifactory", 4, &["AKCp"], r"AKCp[A-Za-z0-9]{69}").entropy(40),
    Row::at("artifactory-reference", "reference token of Artifactory", 5, &["cmVmdGtu"], r"cmVmdGtu[A-Za-z0-9]{56}").entropy(38),
    Row::near("jfrog-token", "key or identity token of JFrog", &["jfrog", "artifactory"], secret_named!("jfrog|artifactory", "[A-Za-z0-9]{64}|[A-Za-z0-9]{73}")).entropy(40),
    Row::at("clojars-token", "token of Clojars", 8, &["CLOJARS_"], r"CLOJARS_[a-z0-9]{60}"),
    Row::near("packagist-token", "token of Packagist", &["packagist"], named!("packagist", r"packagist_[ou]{2}t_[a-f0-9]{68}|[A-Za-z0-9]{20}")).entropy(36),
    Row::near("hex-key", "key of Hex", &["hex_api_key"], named!("hex_api_key", "[a-f0-9]{32}")),
    Row::near("cloudsmith-key", "key of Cloudsmith", &["cloudsmith"], secret_named!("cloudsmith", "[a-f0-9]{40}")),
    Row::near("gemfury-token", "token of Gemfury", &["gemfury", "fury.io"], r"(?i:gemfury|fury\.io)[^\n]{0,60}?([A-Za-z0-9]{6}-[A-Za-z0-9]{30}|[a-f0-9]{20})(?:[^A-Za-z0-9]|$)").entropy(36),
    Row::near("maven-password", "password in Maven's settings", &["<password>", "<passphrase>"], r"<pass(?:word|phrase)>([^<\s]{6,200})</pass").words(),
];
