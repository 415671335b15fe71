"""What ``edge-opcua bench inference`` measures: deadlines kept, time added to models, peers."""
