"""Training: labelled windows (`data`), one stage with the Trainer (`fit`), the whole recipe (`stages`)."""
