//! `make strip-example`, on copies of this tree: what it refuses, and what it says when it can't go on. That the rest
//! builds, is tested and has no trace of the word is scripts/clones.sh. Goes with the example.

use super::rename::Copy;

const SCRIPT: &str = "scripts/strip-example.sh";

fn refused(copy: &Copy, reasons: &[&str]) {
    let output = copy.run(SCRIPT, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    for reason in reasons {
        assert!(said.contains(reason), "`{reason}` is not said: {said}");
    }
}

#[test]
fn a_tree_with_changes_is_refused_and_left_as_it_is() {
    let copy = Copy::new(&[]);
    copy.write("mine.txt", b"not committed\n");
    let before = copy.git(&["status", "--porcelain"]);
    refused(&copy, &["the tree has changes", "git stash -u"]);
    assert_eq!(copy.git(&["status", "--porcelain"]), before);
}

#[test]
fn a_file_that_is_not_as_expected_is_named_with_the_way_back() {
    let copy = Copy::new(&[("src/lib.rs", b"//! Nothing of what is looked for.\n")]);
    refused(&copy, &["src/lib.rs is not as strip-example.sh expects", "git reset --hard && git clean -fd"]);
    copy.git(&["reset", "--quiet", "--hard"]);
    copy.git(&["clean", "--quiet", "-fd"]);
    assert_eq!(copy.git(&["status", "--porcelain"]), "", "the way back is one");
}
