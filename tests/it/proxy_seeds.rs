//! The inputs that the fuzz targets start from, and those that once broke a rule, keep every rule.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

#[path = "../fuzz/checks.rs"]
mod checks;

#[test]
fn kept_inputs_keep_the_rules() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for (name, check) in checks::ALL {
        assert!(fuzz.join(format!("targets/{name}.rs")).exists(), "{name} has a target");
        let seeds: Vec<_> = fs::read_dir(fuzz.join("seeds").join(name)).unwrap().collect();
        assert!(seeds.len() > 3, "{name} has {} seeds", seeds.len());
        for seed in seeds {
            check(&fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
