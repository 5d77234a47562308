"""What the eight panels are made of: state and shell, controls, drawing, networks opened once."""
