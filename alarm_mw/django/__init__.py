"""Django: an application that configures alarms from ``settings.ALARM_MW`` and reports unhandled exceptions.

``INSTALLED_APPS += ["alarm_mw.django"]``. A package, since Django looks for the module ``apps`` in it.
"""
