//! The LogQL of the cheat-sheets: Loki does not run here, so its names are held against the catalogue, as those of the
//! dashboards are.

use super::sheets::blocks;
use crate::repo::deploy::grafana::logql;

#[test]
fn what_logql_names_is_in_the_catalogue() {
    for block in blocks("logql") {
        let query: Vec<&str> = block.text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(logql::problems(&query.join("\n")), Vec::<String>::new(), "{}", block.place);
    }
}
