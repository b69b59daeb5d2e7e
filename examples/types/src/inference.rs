//! Inference (§6.4 of the paper): the model.

mod classifier;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use classifier::Classifier;

/// The model that processes all requests.
#[derive(Serialize, Deserialize)]
pub struct Model {
    /// The classifier of digits.
    pub classifier: Classifier,
}

#[shared]
impl Model {
    /// Returns the digit in a picture.
    pub fn classify(&self, picture: &[f64]) -> u8 {
        self.classifier.classify(picture)
    }

    /// Returns the whole value.
    pub fn fetch(&self) -> Classifier {
        self.classifier.clone()
    }
}
