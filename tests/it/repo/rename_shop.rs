//! While the example is here, `make rename` refuses its word: `make strip-example` deletes each line that has it.

use super::rename::{Copy, two_words};

#[test]
fn the_word_of_the_example_is_no_part_of_a_name() {
    let (copy, name) = (Copy::new(&[]), two_words());
    copy.refuses(&[("NAME", "coffee-shop")], &["make strip-example", "For example: coffee-service"]);
    for (option, value) in
        [("TITLE", "Coffee Shop"), ("DESCRIPTION", "A shop."), ("REPOSITORY", "https://example.com/shop/coffee")]
    {
        copy.refuses(&[("NAME", &name), (option, value)], &["make strip-example"]);
    }
}
