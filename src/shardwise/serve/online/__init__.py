"""`shardwise serve`: HTTP around predictors. Rows wait in one lane, models are swapped while requests go on."""
