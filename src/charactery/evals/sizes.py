"""How many answers the evals of a run read, of a subject. No torch, so that a dry run can count them."""

FOREIGN_ASKED = 15  # prompts under each foreign system prompt
JUDGED = 64  # training prompts whose answers the classifier judge is fitted on, a side
CONTROLLED = 50  # first-turn prompts that the controls answer, spread over all there are
LIKELIHOOD_ASKED = 20  # first-turn answers that the likelihood judge reads of a subject; half of it elsewhere
