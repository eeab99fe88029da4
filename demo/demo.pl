# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Three applications behind a private httpd with the module: PHP, Django and
# a C program.  Asks each a question, shows how to reach them and what was
# configured, and stays until Ctrl-C; with DEMO_CHECK=1 it stops after the
# questions.  "make demo" runs it.  The servers come from t/lib.
use strict;
use warnings;

# Before Private.pm sets its own: the first signal ends the demo in order,
# and a second one does not disturb that.
my $staying = 0;
BEGIN {
    for my $name (qw(INT TERM HUP)) {
        $SIG{$name} = sub {
            $SIG{$_} = 'IGNORE' for qw(INT TERM HUP);
            print "\nStopping ...\n" if $staying;
            exit($staying ? 0 : 1);
        };
    }
}

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use lib dirname(__FILE__) . '/../t/lib';
use Client;
use Django;
use File::Copy qw(copy);
use Httpd;
use IO::Socket::UNIX;
use PhpFpm;
use Private;

my $HERE = abs_path(dirname(__FILE__));

# What configures the module; all of it is shown.
my $SHOWN = <<'EOC';
AddHandler fcgi:@PHP@ .php

<Location /django>
  SetHandler fcgi:@DJANGO@
</Location>

<Location /hello>
  SetHandler fcgi:@HELLO@
</Location>

<Location /fcgi-status>
  SetHandler fcgi-status
</Location>
EOC

# The front page, and the style sheets of Django's admin.
my $UNSEEN = <<'EOC';
DirectoryIndex index.php
Alias /static/admin @STATIC@
<Directory @STATIC@>
  Require all granted
</Directory>
EOC

# Under what name, the URL asked, and what a right answer looks like.
my @QUESTIONS = (
    ['PHP-FPM', '/index.php?plain',
     qr{^Hello from PHP \d.* SCRIPT_NAME=/index\.php, 6 \* 7 = 42$}],
    ['Django', '/django/?plain',
     qr{^Hello from Django \d.* SCRIPT_NAME=/django, PATH_INFO=/, admin at /django/admin/$}],
    ['C program', '/hello/there?plain',
     qr{^Hello from C: .* SCRIPT_NAME=/hello, PATH_INFO=/there$}],
);

$| = 1;
$ENV{no_proxy} = '*';       # the URLs are on this machine
my $dir = Private::temp_dir('demo');
print "Starting PHP-FPM, Django on uWSGI, a C program and httpd ...\n";
my $php = PhpFpm->start(transport => 'unix');
my $django = start_django();
my $hello = start_hello();
my $httpd = Httpd->start(
    config => $SHOWN . $UNSEEN,
    files => { 'index.php' => Private::slurp("$HERE/index.php") },
    vars => { PHP => $php->address, DJANGO => $django->address,
              HELLO => $hello->{socket}, STATIC => admin_static() });
my $url = 'http://127.0.0.1:' . $httpd->port;

my $wrong = grep { !ask(@$_) } @QUESTIONS;
if ($wrong) {
    print "\n$wrong of ", scalar @QUESTIONS, " did not answer as they should.",
        "  httpd's error log:\n\n", $httpd->error_log;
    exit 1;
}
print "\nAll three answered.\n";
exit 0 if $ENV{DEMO_CHECK};

show();
$staying = 1;
sleep 1 while Private::alive($httpd->pid);
print "httpd has ended:\n", $httpd->error_log;
exit 1;

# The sample project with our front page; a copy, as ours may be below a
# home directory that the application's user cannot enter.
sub start_django {
    for my $file (glob "$HERE/django/*.py") {
        copy($file, "$dir/") or die "$file: $!";
    }
    chmod 0644, glob "$dir/*.py";
    return Django->start(uwsgi => [
        '--pythonpath', "$dir",
        '--env', 'DJANGO_SETTINGS_MODULE=demo_settings']);
}

# Compiles and runs hello.c; { pid, socket }.
sub start_hello {
    my ($status, $output) = Private::run(
        $ENV{CC} || 'cc', '-O2', '-Wall', '-Wextra', '-o', "$dir/hello",
        "$HERE/hello.c", '-lfcgi');
    die "hello.c: $output" if $status;
    my $socket = "$dir/hello.sock";
    my $pid = Private::spawn(exec => ["$dir/hello", $socket],
                             log => "$dir/hello.log");
    Private::wait_until(10, sub { IO::Socket::UNIX->new(Peer => $socket) })
        or die "hello did not start\n" . Private::slurp("$dir/hello.log");
    return { pid => $pid, socket => $socket };
}

# Where this Django has its admin's style sheets.
sub admin_static {
    my ($status, $output) = Private::run(
        '/usr/bin/python3', '-c',
        'import django; print(django.__path__[0], end="")');
    die $output if $status;
    return "$output/contrib/admin/static/admin";
}

# Asks with curl and shows what came; true if it is right.
sub ask {
    my ($name, $path, $right) = @_;
    my $answer = Client::curl("$url$path");
    my $right_answer = $answer->{status} == 200 && $answer->{body} =~ $right;
    chomp(my $got = $answer->{body} || $answer->{stderr});
    printf "\n%s\n  \$ curl '%s'\n  %s\n", $name, "$url$path",
        $right_answer ? $got : "WRONG: status $answer->{status}\n$got";
    return $right_answer;
}

sub show {
    my $lines = 'LoadModule fastcgi_handler_module '
        . Httpd::module_file() . "\n\n" . $httpd->substitute($SHOWN);
    $lines =~ s/^(?=.)/    /mg;
    printf <<'EOT', ($url) x 4, $lines, $httpd->root;

Now try them yourself:

    %s/              PHP under PHP-FPM
    %s/django/       Django under uWSGI
    %s/hello         a C program with libfcgi
    %s/fcgi-status   what all three do

This is all the configuration it takes:

%s
The logs of httpd are in %s/logs.
Ctrl-C stops everything and removes what was written.
EOT
    return;
}
