//! Credentials inside addresses, headers, command lines and the files of tools.

use crate::secrets::detect::row::{Row, Verify};

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::near("url-password", "password in an address: of a database, queue, repository, index or proxy (RFC 3986 section 3.2.1)",
        &["s://", "p://", "b://", "l://", "v://", "h://", "e://", "t://", "r://", "x://"],
        r#"[a-z0-9]://[^\s"'`<>/:@\\]{0,128}:([^\s"'`<>/@\\]{3,256})@[A-Za-z0-9.\[_-]"#).words(),
    Row::near("url-token", "token in place of a user in an address", &["https://", "http://"],
        r#"https?://([A-Za-z0-9_-]{24,256})(?::x-oauth-basic|:)?@[A-Za-z0-9.-]"#).entropy(36),
    Row::near("connection-password", "password in a connection string (ADO.NET, ODBC, JDBC, libpq)", &["password=", "pwd=", "passwd=", "password ="],
        r#"(?i:password|passwd|pwd) ?=([^\s;&"'`<>\\,)]{4,128})\s?[;&]"#).words(),
    Row::near("netrc", "password in a .netrc", &["machine "],
        r"machine\s{1,8}[A-Za-z0-9._:-]{1,255}\s{1,8}login\s{1,8}[^\s]{1,255}\s{1,8}password\s{1,8}([^\s]{4,1000})").words().window(1600),
    Row::near("netrc-default", "default password in a .netrc", &["default login"], r"default\s{1,8}login\s{1,8}[^\s]{1,255}\s{1,8}password\s{1,8}([^\s]{4,1000})").words().window(1300),
    Row::near("authorization-basic", "login in a header (RFC 7617)", &["basic "],
        r#"(?i:basic) {1,4}([A-Za-z0-9+/]{10,500}={0,2})(?:[^A-Za-z0-9+/=]|$)"#).verify(Verify::BasicAuth).entropy(25),
    Row::near("authorization-bearer", "token in a header (RFC 6750)", &["bearer "], r#"(?i:bearer) {1,4}([A-Za-z0-9_+/.~-]{20,4000}={0,2})"#).window(4100).entropy(33),
    Row::near("authorization-token", "token in a header", &["authorization"],
        r#"(?i:authorization)["'\\]{0,3}\s{0,3}[:=,]\s{0,3}["'\\]{0,3}(?i:token|apikey|api-key|key|ssws|privatetoken) {1,3}(?i:token=)?["'\\]{0,2}([A-Za-z0-9_+/.~-]{16,500}={0,2})"#).entropy(30),
    Row::near("header-key", "key in a header of its own", &["x-api-key", "x-auth-token", "private-token", "x-access-token", "api-key:", "apikey:", "x-apikey"],
        r#"(?i:x-api-?key|x-auth-token|private-token|x-access-token|api-?key)["'\\]{0,3}\s{0,3}[:=,]\s{0,3}["'\\]{0,3}([A-Za-z0-9_+/.~-]{16,500}={0,2})(?:[^A-Za-z0-9_(]|$)"#).entropy(33),
    Row::near("curl-user", "login on the command line of curl or wget", &["curl ", "wget "],
        r#"(?:curl|wget)\s[^\n]{0,300}?(?:-u|--user|--proxy-user)[ =]{0,2}["']?[^\s:"'$]{1,100}:([^\s"'$<>\\]{4,200})"#).words(),
    Row::near("command-password", "password on a command line", &["sshpass", "docker login", "podman login", "mysqldump ", "mysql -", "htpasswd -", "redis-cli "],
        r#"(?:sshpass -p|(?:docker|podman) login[^\n]{0,200}?(?:-p|--password)|mysql(?:dump)?\s[^\n]{0,200}?(?:-p|--password=)|redis-cli\s[^\n]{0,100}?-a|htpasswd -[a-zA-Z]{0,3}b[a-zA-Z]{0,3} [^\s]{1,100} [^\s]{1,100})[ =]{0,2}["']?([^\s"'$<>|;&-][^\s"'$<>|;&]{5,128})"#).words(),
    Row::near("kube-token", "token of a user in the configuration of a cluster", &["token: "], r#"token: ["']?([A-Za-z0-9_.~-]{30,4000})["']?"#).window(4200).entropy(36),
    Row::near("kubernetes-secret", "value of a Secret of Kubernetes: base64", &["kind: Secret", "kind: \"Secret"],
        r#"kind: "?Secret"?[\s\S]{0,600}?\n(?:string)?[dD]ata:\s{0,4}\n\s{1,8}[A-Za-z0-9_.-]{1,80}: ["']?([A-Za-z0-9+/]{12,4000}={0,2})["']?\s"#).window(5000).entropy(30),
    Row::near("shadow-hash", "hash of a password that can be tried offline (crypt(5))", &["$6$", "$y$j", "$2y$1", "$2b$1", "$apr1$", "$argon2id$v"],
        r#"\$(?:6|y|apr1|2[by]|argon2id)\$[A-Za-z0-9./$=,+]{20,200}"#).entropy(36).keep(3),
    Row::near("pgpass", "line of a .pgpass", &[":5432:", ":5433:", ":6432:"], r":(?:543[23]|6432):[^\s:@/]{1,64}:[^\s:@/]{1,64}:([^\s:]{6,128})(?:\s|$)").words(),
];
