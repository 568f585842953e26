"""The web page of the gateway, made with NiceGUI, which allows one a process."""
