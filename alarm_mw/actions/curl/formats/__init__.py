"""Bodies of requests in the forms that services want: pure functions from a message to what is sent.

``chat`` has Slack, Discord, Teams, Mattermost and Google Chat; ``paging`` PagerDuty and Opsgenie; ``alertmanager`` its
webhook and its API; ``events`` OTLP and CloudEvents; ``custom`` the ``json`` of a configuration; ``neutral`` makes
values safe and short; ``answers`` reads what services say of a request.
"""
