//! Inference (§6.4 of the paper): the model.

mod classifier;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use classifier::Classifier;

/// The model that all requests need.
#[derive(Serialize, Deserialize)]
pub struct Model {
    /// It reads digits.
    pub classifier: Classifier,
}

#[shared]
impl Model {
    /// The digit in a picture.
    pub fn classify(&self, picture: &[f64]) -> u8 {
        self.classifier.classify(picture)
    }

    /// All of it.
    pub fn fetch(&self) -> Classifier {
        self.classifier.clone()
    }
}
